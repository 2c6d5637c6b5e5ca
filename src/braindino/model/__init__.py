"""The ViT and its parts. Torch begins here."""
