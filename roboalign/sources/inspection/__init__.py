"""Looking at a source before it is used: what it holds, what a spec makes of it, and a spec for what has none."""
