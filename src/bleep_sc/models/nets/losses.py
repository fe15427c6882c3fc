import torch
from torch import Tensor
from torch.nn.functional import log_softmax, normalize, softmax


def bleep_loss(image: Tensor, expression: Tensor, temperature: float = 1.0) -> Tensor:
    r"""Compute the contrastive loss with similarity-adjusted targets (Xie et al., NeurIPS 2023, section 3.2).

    Let :math:`I` be image embeddings and :math:`S` expression embeddings, both (n, d), row i of both of the same spot.
    The logits are :math:`L = S I^T / \tau`. The targets are :math:`T = softmax((I I^T + S S^T) / 2\tau)` over rows. The
    loss is the mean of the cross-entropies of :math:`L` with :math:`T` and of :math:`L^T` with :math:`T^T`.

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
    """Compute the contrastive loss of embeddings of length one in which the only target is the same spot.

    This is InfoNCE (van den Oord et al., 2018) both ways, as in CLIP (Radford et al., ICML 2021). It is the mean of the
    cross-entropies of expression against images and of images against expression. Arguments and result are those of
    `bleep_loss`. Embeddings may have leading dimensions (..., n, d); the result then has these.
    """
    logits = normalize(expression, dim=-1) @ normalize(image, dim=-1).mT / temperature
    own = [log_softmax(logits, dim=dim).diagonal(dim1=-2, dim2=-1) for dim in (-1, -2)]
    return -((own[0] + own[1]) / 2).mean(dim=-1)
