"""The dual-branch FSQ tokenizer."""
