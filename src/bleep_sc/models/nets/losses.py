import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, normalize, softmax


def bleep_loss(image: Tensor, expression: Tensor, temperature: float = 1.0) -> Tensor:
    r"""Contrastive loss with similarity-adjusted targets (Xie et al., NeurIPS 2023, section 3.2).

    With image embeddings :math:`I` and expression embeddings :math:`S`, both of shape (n, d) and row i of both of one
    spot: logits :math:`L = S I^T / \tau`; targets :math:`T = softmax((I I^T + S S^T) / 2\tau)` over rows; the loss is
    the mean of the cross-entropies of :math:`L` with :math:`T` and of :math:`L^T` with :math:`T^T`.

    As in the authors' code, gradients flow through the targets, the embeddings are not normalised to length one, and
    the columns of the targets need not sum to one.

    Parameters
    ----------
    image, expression
        Embeddings (n, d) of the same n spots in the same order.
    temperature
        :math:`\tau`; 1 in the paper.

    Returns
    -------
    The mean over spots, a scalar tensor.
    """
    logits = expression @ image.T / temperature
    similarity = (image @ image.T + expression @ expression.T) / 2
    targets = softmax(similarity / temperature, dim=-1)
    by_expression = -(targets * log_softmax(logits, dim=-1)).sum(dim=1)
    by_image = -(targets.T * log_softmax(logits.T, dim=-1)).sum(dim=1)
    return torch.mean((by_expression + by_image) / 2)


def info_nce(image: Tensor, expression: Tensor, temperature: float = 0.1) -> Tensor:
    """Contrastive loss of embeddings of length one in which each spot's own partner is the only target.

    InfoNCE (van den Oord et al., 2018) both ways: the mean of the cross-entropies of expression against images and of
    images against expression, as in CLIP (Radford et al., ICML 2021). Arguments and result as in `bleep_loss`.
    """
    logits = normalize(expression) @ normalize(image).T / temperature
    partners = torch.arange(len(logits), device=logits.device)
    return (cross_entropy(logits, partners) + cross_entropy(logits.T, partners)) / 2
