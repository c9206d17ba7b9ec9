"""Wiring that several stages share: trained parts loaded and put together."""
