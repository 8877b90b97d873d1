"""Baselines that every deep model has to beat."""

from pangen.entry import Entry

MODELS = (
    Entry(
        "independent",
        "classical",
        "pangen.families.classical.independent:Independent",
        "a histogram for each dimension; with labels it is naive Bayes",
        "Maron 1961",
        ("binary", "levels", "standardise"),
        "exact",
        capabilities=("log_prob", "closed_form"),
        conditional=True,
        showcase=True,
    ),
    Entry(
        "mixture",
        "classical",
        "pangen.families.classical.mixture:Mixture",
        "a mixture of Gaussians, fitted by expectation maximisation",
        "Dempster et al. 1977",
        ("dequantise", "standardise"),
        "exact",
        capabilities=("log_prob", "closed_form"),
        conditional=True,
        showcase=True,
    ),
    Entry(
        "kde",
        "classical",
        "pangen.families.classical.kde:KDE",
        "a Gaussian kernel on each training example",
        "Parzen 1962",
        ("dequantise", "standardise"),
        "exact",
        capabilities=("log_prob", "closed_form"),
        conditional=True,
        showcase=True,
    ),
    Entry(
        "ngram",
        "classical",
        "pangen.families.classical.ngram:NGram",
        "counts of short contexts, interpolated",
        "Kneser and Ney 1995",
        ("characters", "levels"),
        "exact",
        capabilities=("log_prob", "next_token", "closed_form"),
        sampling="1 table look-up a token",
        showcase=True,
    ),
)
