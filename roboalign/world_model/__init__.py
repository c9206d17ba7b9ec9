"""The action-conditioned transformer over the tokenizer's tokens."""
