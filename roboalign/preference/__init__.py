"""Blinded human study of pairs: which of two rollouts of one episode follows its instruction better."""
