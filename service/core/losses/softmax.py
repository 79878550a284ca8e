"""Losses of a softmax over K classes."""

import numpy as np

from service.core.losses.loss import LOWEST, LossAndGradient
from service.core.numerics import Array, Indices, log_softmax, logsumexp

TINY = 1e-300  # stands for 1 - p where that underflows: -log1p(-TINY) / TINY is the limit, 1


def cross_entropy(logits: Array, labels: Indices) -> LossAndGradient:
    r"""Negative log-probability of the true class.

    .. math:: \ell = -\log p_y, \qquad \partial\ell / \partial z_j = p_j - \delta_{jy}

    Parameters
    ----------
    logits : ndarray of shape (N, K)
    labels : ndarray of shape (N,)

    Examples
    --------
    >>> loss, gradient = cross_entropy(np.log([[0.7, 0.2, 0.1]]), np.array([0]))
    >>> loss.round(4), gradient.round(4)
    (array([0.3567]), array([[-0.3,  0.2,  0.1]]))
    """
    return surprise_of(log_softmax(logits), labels)


def weighted_cross_entropy(logits: Array, labels: Indices, *, class_weights: Array) -> LossAndGradient:
    r"""Cross-entropy times the weight of the true class: :math:`-w_y \log p_y`.

    Its population optimum is :math:`q_k \propto w_k\, p(k \mid x)`; with :math:`w = 1/\pi` the posterior of
    a population in which all classes are equally common. It buys balanced accuracy and pays in accuracy and log loss.

    Parameters
    ----------
    logits : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    class_weights : ndarray of shape (K,)
        Positive; only their ratios move the optimum.

    Examples
    --------
    >>> weighted_cross_entropy(np.log([[0.5, 0.5]]), np.array([1]), class_weights=np.array([1.0, 9.0]))[0].round(4)
    array([6.2383])

    References
    ----------
    Elkan (2001), *The Foundations of Cost-Sensitive Learning*, IJCAI.
    """
    loss, gradient = cross_entropy(logits, labels)
    return _scaled(np.asarray(class_weights)[labels], loss, gradient)


def focal(logits: Array, labels: Indices, *, gamma: float = 2.0, alpha: Array | None = None) -> LossAndGradient:
    r"""Cross-entropy that fades for rows already right.

    .. math:: \ell = -\alpha_y (1 - p_y)^\gamma \log p_y, \qquad
              \partial\ell / \partial z_j = \alpha_y\, \varphi(p_y)\, (p_j - \delta_{jy})

    with the :math:`\varphi` of `log_focal_factor`. Not a proper loss: its optimum is no posterior, see `core.inverse`.

    Parameters
    ----------
    logits : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    gamma : float
        At least 0, where it is cross-entropy.
    alpha : ndarray of shape (K,), optional
        Positive weight of every class.

    Examples
    --------
    >>> focal(np.log([[0.9, 0.1]]), np.array([0]), gamma=2.0)[0].round(6)
    array([0.001054])

    References
    ----------
    Lin et al. (2017), *Focal Loss for Dense Object Detection*, ICCV.
    """
    log_probs = log_softmax(logits)
    loss, gradient = surprise_of(log_probs, labels)
    log_rest = log_rest_mass(log_probs, labels)
    weight = 1.0 if alpha is None else np.asarray(alpha)[labels]
    factor = weight * np.exp(log_focal_factor(-loss, log_rest, gamma=gamma))
    return weight * np.exp(gamma * log_rest) * loss, factor[:, None] * gradient


def surprise_of(log_probs: Array, labels: Indices) -> LossAndGradient:
    """Cross-entropy and its gradient in the logits, from log-probabilities that are already made of them.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)

    Examples
    --------
    >>> surprise_of(np.log([[0.75, 0.25]]), np.array([0]))[1].round(4)
    array([[-0.25,  0.25]])
    """
    rows = np.arange(len(log_probs))
    own = log_probs[rows, labels]
    gradient = np.exp(log_probs)
    gradient[rows, labels] = np.expm1(own)  # p - 1 keeps its digits where p is nearly one
    return -own, gradient


def log_rest_mass(log_probs: Array, classes: Indices) -> Array:
    """Logarithm of the probability of all classes but one, summed from them rather than taken from one.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    classes : ndarray of shape (N,)
        The class left out of every row.

    Examples
    --------
    >>> log_rest_mass(np.array([[-0.0, -50.0]]), np.array([0]))
    array([-50.])
    """
    others = np.maximum(log_probs, LOWEST)
    others[np.arange(len(others)), classes] = -np.inf
    return np.minimum(logsumexp(others), 0.0)


def log_focal_factor(log_p: Array, log_rest: Array, *, gamma: float) -> Array:
    r"""Logarithm of what the focal loss multiplies the gradient of cross-entropy by.

    .. math:: \varphi(p) = (1-p)^\gamma - \gamma (1-p)^{\gamma-1} p \log p
              = (1-p)^\gamma \left(1 + \gamma\, p\, \frac{-\log p}{1-p}\right)

    The second form is stable: its fraction tends to 1 as p does, and :math:`p \log p` to 0.

    Parameters
    ----------
    log_p, log_rest : ndarray
        Logarithms of p and of 1 - p, of one shape; the second is exact where p is nearly one.
    gamma : float

    Examples
    --------
    >>> np.exp(log_focal_factor(np.log([0.5]), np.log([0.5]), gamma=2.0)).round(6)
    array([0.596574])
    """
    rest = np.maximum(np.exp(log_rest), TINY)
    surprise = np.where(rest < 0.5, -np.log1p(-np.minimum(rest, 0.5)), -log_p)
    return gamma * log_rest + np.log1p(gamma * np.exp(log_p) * surprise / rest)


def label_smoothing(logits: Array, labels: Indices, *, epsilon: float = 0.1) -> LossAndGradient:
    r"""Cross-entropy against the true class mixed with all classes alike.

    .. math:: t = (1-\varepsilon) e_y + \varepsilon / K, \qquad \ell = -\sum_k t_k \log p_k, \qquad
              \partial\ell / \partial z = p - t

    A wrong class is pulled up only while its probability is below :math:`\varepsilon/K`, and pushed down above.

    Parameters
    ----------
    logits : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    epsilon : float
        In [0, 1).

    Examples
    --------
    >>> label_smoothing(np.log([[0.95, 0.05]]), np.array([0]), epsilon=0.1)[0].round(6)  # the entropy of the target
    array([0.198515])

    References
    ----------
    Szegedy et al. (2016), *Rethinking the Inception Architecture for Computer Vision*, CVPR.
    """
    k = logits.shape[1]
    return soft_cross_entropy(logits, (1.0 - epsilon) * np.eye(k)[labels] + epsilon / k)


def soft_cross_entropy(logits: Array, targets: Array) -> LossAndGradient:
    r"""Cross-entropy against distributions: mixed labels, several annotators, a teacher.

    .. math:: \ell = -\sum_k t_k \log p_k, \qquad \partial\ell / \partial z = p - t

    Parameters
    ----------
    logits : ndarray of shape (N, K)
    targets : ndarray of shape (N, K)
        Rows sum to one.

    Examples
    --------
    >>> soft_cross_entropy(np.zeros((1, 2)), np.array([[0.3, 0.7]]))[1]
    array([[ 0.2, -0.2]])
    """
    log_probs = log_softmax(logits)
    return -np.einsum("nk,nk->n", targets, log_probs), np.exp(log_probs) - targets


def mixup_targets(labels: Indices, partners: Indices, share: Array, *, classes: int) -> Array:
    r"""Targets of mixed inputs :math:`\lambda x_i + (1-\lambda) x_j`: :math:`\lambda e_{y_i} + (1-\lambda) e_{y_j}`.

    The optimum is right on mixed inputs; on clean ones it is under-confident, and no closed form undoes that.

    Parameters
    ----------
    labels, partners : ndarray of shape (N,)
        Classes of both inputs of every pair.
    share : ndarray of shape (N,)
        λ, in [0, 1].
    classes : int

    Examples
    --------
    >>> mixup_targets(np.array([0]), np.array([2]), np.array([0.75]), classes=3)
    array([[0.75, 0.  , 0.25]])

    References
    ----------
    Zhang et al. (2018), *mixup: Beyond Empirical Risk Minimization*, ICLR.
    """
    one_hot = np.eye(classes)
    return share[:, None] * one_hot[labels] + (1.0 - share)[:, None] * one_hot[partners]


def distillation(
    logits: Array, labels: Indices, *, teacher: Array, tau: float = 4.0, soft_share: float = 0.5
) -> LossAndGradient:
    r"""A student's loss: the teacher's softened distribution, combined with the hard labels.

    .. math:: \ell = \alpha\, \tau^2\, \mathrm{CE}\bigl(p^{(\tau)}, q^{(\tau)}\bigr) + (1-\alpha)(-\log q_y), \qquad
              \partial\ell / \partial z = \alpha\, \tau\, \bigl(q^{(\tau)} - p^{(\tau)}\bigr) + (1-\alpha)(q - e_y)

    where :math:`p^{(\tau)}, q^{(\tau)}` are teacher and student at temperature τ. Softening shrinks the gradient
    as :math:`1/\tau^2`; the factor :math:`\tau^2` gives that back.

    Parameters
    ----------
    logits : ndarray of shape (N, K)
        The student's.
    labels : ndarray of shape (N,)
    teacher : ndarray of shape (N, K)
        The teacher's logits.
    tau : float
        Positive.
    soft_share : float
        α in [0, 1]: 1 looks at the teacher alone.

    Examples
    --------
    >>> same = np.array([[2.0, 0.0]])
    >>> distillation(same, np.array([0]), teacher=same, tau=4.0, soft_share=1.0)[1]
    array([[0., 0.]])

    References
    ----------
    Hinton, Vinyals & Dean (2015), *Distilling the Knowledge in a Neural Network*, arXiv:1503.02531.
    """
    hard, pull = cross_entropy(logits, labels)
    soft, lean = soft_cross_entropy(logits / tau, np.exp(log_softmax(teacher / tau)))
    return (
        soft_share * tau**2 * soft + (1.0 - soft_share) * hard,
        soft_share * tau * lean + (1.0 - soft_share) * pull,
    )


def _scaled(weights: Array, loss: Array, gradient: Array) -> LossAndGradient:
    return weights * loss, weights[:, None] * gradient
