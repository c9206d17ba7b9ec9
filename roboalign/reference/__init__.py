"""Reference sets: clips of the bench with expected scores, by which an installation checks that it scores alike.

```
FOLDER/reference.json        expected frames, labels and scores, with tolerances, by roboalign/reference/records.py
FOLDER/README.md             how to check
FOLDER/episodes/<source>/    LeRobotDataset 3 of the recorded episodes that the clips are made from
FOLDER/sources/index.json    their action ranges
FOLDER/bench/pairs.parquet   the recipes of the clips
FOLDER/bench/generated/      LeRobotDataset 3 of the world models' rollouts among the clips
FOLDER/models/<scorer>/      checkpoints of judge and student, if they are small
```

`python -m roboalign bench export FOLDER --reference N` writes one; `bench check FOLDER` compares an installation with
it.
"""
