"""How the starter's weights were made: dataset, vae, clip, classifier, unet, export, decoder; one command a part."""
