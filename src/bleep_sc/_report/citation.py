"""What to cite; tests compare it with CITATION.cff and the documentation's list of references."""

PAPERS = {
    "bleep": "Xie R, Pang K, Chung SW, Perciani CT, MacParland SA, Wang B, Bader GD. Spatially resolved gene "
    "expression prediction from histology images via bi-modal contrastive learning. Advances in Neural Information "
    "Processing Systems 36, 70626–70637, 2023. arXiv:2306.01859",
    "stnet": "He B, Bergenstråhle L, Stenbeck L, Abid A, Andersson A, Borg Å, Maaskola J, Lundeberg J, Zou J. "
    "Integrating spatial gene expression and breast tumour morphology via deep learning. Nature Biomedical Engineering "
    "4, 827–834, 2020. doi:10.1038/s41551-020-0578-x",
    "histogene": "Pang M, Su K, Li M. Leveraging information in spatial transcriptomics to predict super-resolution "
    "gene expression from histology images in tumors. bioRxiv, 2021. doi:10.1101/2021.11.28.470212",
}
"""The paper of each method that has one."""


def package(version: str) -> str:
    """The entry of the package itself."""
    return (
        f"The bleep-sc developers. bleep-sc: predict spatial gene expression from H&E images inside the scverse. "
        f"Version {version}. https://github.com/bleep-sc/bleep-sc"
    )
