"""Models as folders in Hugging Face's layout, for other machines and for the hub."""
