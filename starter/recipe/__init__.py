"""The recipe of the starter's weights, one command per part: dataset, vae, clip, classifier, unet, export, decoder."""
