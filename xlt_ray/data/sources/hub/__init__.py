"""The ``hub`` source: data sets of the Hugging Face Hub, or of a folder in its form."""
