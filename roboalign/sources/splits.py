"""Splitting episodes by the group that they belong to."""

import hashlib
from collections import Counter
from collections.abc import Sequence

from roboalign.sources.shared_spec import SplitSpec
from roboalign.types import Split


def split_groups(groups: Sequence[str], spec: SplitSpec, seed: int) -> list[Split]:
    """The split of each episode, from the group of each: no group is in two splits, and the shares of the spec hold as
    far as whole groups allow. Whatever the order of the episodes, the same groups get the same splits."""
    sizes = Counter(groups)
    shares: dict[Split, float] = {"train": spec.train, "validation": spec.validation, "test": spec.test}
    left = {split: share * len(groups) for split, share in shares.items()}
    chosen: dict[str, Split] = {}

    def rank(group: str) -> bytes:
        return hashlib.blake2b(f"{seed} {group}".encode(), digest_size=8).digest()

    # Large groups first: what they overfill, small ones can even out.
    for group in sorted(sizes, key=lambda name: (-sizes[name], rank(name))):
        split = max(left, key=lambda name: left[name])
        chosen[group] = split
        left[split] -= sizes[group]
    return [chosen[group] for group in groups]
