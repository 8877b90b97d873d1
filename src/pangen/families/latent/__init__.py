"""Models with a hidden cause for each example."""

from pangen.entry import IMAGES, Entry

MODELS = (
    Entry(
        "ae",
        "latent",
        "pangen.families.latent.ae:Autoencoder",
        "autoencoder: a code to reconstruct from",
        "Rumelhart et al. 1986; Hinton and Salakhutdinov 2006",
        (*IMAGES, "standardise"),
        "none",
        "a reconstruction is not a probability",
        ("latent",),
        "none: no distribution over codes",
        samples=False,
    ),
    Entry(
        "vae",
        "latent",
        "pangen.families.latent.vae:VAE",
        "variational autoencoder",
        "Kingma and Welling 2014",
        (*IMAGES, "standardise"),
        "lower bound",
        "",
        ("log_prob", "latent", "posterior"),
        conditional=True,
        showcase=True,
    ),
)
