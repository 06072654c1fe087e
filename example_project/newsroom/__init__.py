"""The newsroom: its content types, its classic pages and its demo content."""
