"use strict";
// Plays clips in step. A clip is {brush, image, frames, width, height, tiles}: an image whose tiles are the frames, row
// by row with `tiles` in each, and the 2D context of the canvas that shows them.
class ClipPlayer {
  // fps: frames per second, or a function that returns them; shown: called after each change, with the player.
  constructor(fps, shown) {
    this.fps = typeof fps === "function" ? fps : () => fps;
    this.shown = shown;
    this.clips = [];
    this.frame = 0;
    this.last = 0;
    this.playing = false;
    this.due = 0;
    this.loop = 0;
    this.request = 0;
  }

  // Shows the first frame of `clips` when all images are decoded; returns how many could not be, or undefined if other
  // clips were loaded in the meantime.
  async load(clips) {
    const mine = ++this.request;
    this.clips = [];
    const decoded = await Promise.allSettled(clips.map(({ image }) => image.decode()));
    if (mine !== this.request) return undefined;
    this.clips = clips.filter((_, number) => decoded[number].status === "fulfilled");
    this.last = Math.max(0, ...this.clips.map(({ frames }) => frames - 1));
    this.seek(0);
    return clips.length - this.clips.length;
  }

  // Draws the frame at hand of `clip`, with its own brush or another; a shorter clip holds its last frame.
  draw({ image, brush, frames, width, height, tiles }, onto = brush) {
    const number = Math.min(this.frame, frames - 1);
    const [left, top] = [(number % tiles) * width, Math.floor(number / tiles) * height];
    onto.drawImage(image, left, top, width, height, 0, 0, onto.canvas.width, onto.canvas.height);
  }

  seek(frame) {
    this.frame = Math.max(0, Math.min(this.last, frame));
    for (const clip of this.clips) this.draw(clip);
    this.shown(this);
  }

  step(by) {
    this.playing = false;
    this.seek(this.frame + by);
  }

  play(on = !this.playing) {
    this.playing = on;
    this.due = 0;
    this.seek(on && this.frame === this.last ? 0 : this.frame);
    cancelAnimationFrame(this.loop);
    if (on) this.loop = requestAnimationFrame((now) => this.tick(now));
  }

  tick(now) {
    if (!this.playing) return;
    if (now >= this.due) {
      if (this.due) this.seek(this.frame === this.last ? 0 : this.frame + 1);
      this.due = now + (this.frame === this.last ? 1000 : 1000 / this.fps()); // the last frame is shown for a second
    }
    this.loop = requestAnimationFrame((later) => this.tick(later));
  }
}
