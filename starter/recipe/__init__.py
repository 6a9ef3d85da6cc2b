"""How the starter's weights were made: draw, clip, reader, vae, unet, export; one command a part."""
