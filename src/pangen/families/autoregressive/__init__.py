"""Products of conditionals."""

from pangen.entry import Entry

MODELS = (
    Entry(
        "made",
        "autoregressive",
        "pangen.families.autoregressive.made:MADE",
        "masked autoencoder: one network, every conditional",
        "Germain et al. 2015",
        ("binary", "levels"),
        "exact",
        "",
        ("log_prob",),
        "1 pass a dimension",
        conditional=True,
        showcase=True,
    ),
    Entry(
        "gpt",
        "autoregressive",
        "pangen.families.autoregressive.gpt:GPT",
        "decoder-only Transformer over characters, or pixels as tokens",
        "Radford et al. 2018",
        ("characters", "levels"),
        "exact",
        "",
        ("log_prob", "next_token"),
        "1 cached pass a token",
        conditional=True,
        showcase=True,
    ),
)
