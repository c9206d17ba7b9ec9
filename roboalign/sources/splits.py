"""Assignment of episodes to splits by group."""

import hashlib
from collections import Counter
from collections.abc import Sequence

from roboalign.sources.shared_spec import SplitSpec
from roboalign.types import Split


def split_groups(groups: Sequence[str], spec: SplitSpec, seed: int) -> list[Split]:
    """Return the split of each episode, given the group of each.

    No group is divided between splits. The fractions of `spec` are met as closely as whole groups allow. The result
    depends on the set of groups, their sizes and the seed, but not on the order of the episodes.
    """
    sizes = Counter(groups)
    shares: dict[Split, float] = {"train": spec.train, "validation": spec.validation, "test": spec.test}
    remaining = {split: share * len(groups) for split, share in shares.items()}
    split_of_group: dict[str, Split] = {}

    def rank(group: str) -> bytes:
        return hashlib.blake2b(f"{seed} {group}".encode(), digest_size=8).digest()

    # Large groups first: small groups can then compensate for splits that large ones overfill.
    for group in sorted(sizes, key=lambda name: (-sizes[name], rank(name))):
        split = max(remaining, key=lambda name: remaining[name])
        split_of_group[group] = split
        remaining[split] -= sizes[group]
    return [split_of_group[group] for group in groups]
