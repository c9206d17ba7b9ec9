"""How the formats of data sets are recognised, and what each holds."""
