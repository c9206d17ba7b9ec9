"""The human check: people score clips blind, and their scores are compared with the labels."""
