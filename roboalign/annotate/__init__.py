"""The human study: people score clips without knowing their origin, and their scores are compared with the labels."""
