"""The demo content: own words and pictures, the same on every machine."""
