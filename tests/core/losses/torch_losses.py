"""The losses of `LOSSES` in torch: its own where it has one, else written with its operators; torch is passed in."""


def torch_focal(log_p, p, gamma, alpha):
    return -alpha * (1.0 - p) ** gamma * log_p


def torch_class_focal(torch, z, y, par):
    log_p = torch.log_softmax(z, 1).gather(1, y[:, None])[:, 0]
    return torch_focal(log_p, log_p.exp(), par["gamma"], par["alpha"][y])


def torch_sigmoid_focal(torch, z, y, par):
    log_p = torch.nn.functional.logsigmoid(z * (2.0 * y - 1.0))
    alpha = torch.where(y == 1, par["alpha"], 1.0 - par["alpha"])
    return torch_focal(log_p, log_p.exp(), par["gamma"], alpha).sum(1)


def torch_distillation(torch, z, y, par):
    f, tau, share = torch.nn.functional, par["tau"], par["soft_share"]
    soft = f.cross_entropy(z / tau, torch.softmax(par["teacher"] / tau, 1), reduction="none")
    return share * tau**2 * soft + (1.0 - share) * f.cross_entropy(z, y, reduction="none")


def torch_sequence(torch, z, y, par):
    f, p = torch.nn.functional, torch.softmax(z, -1)
    plain = f.cross_entropy(z.transpose(1, 2), y, ignore_index=-1, reduction="none").sum(1)
    left, right = p[:, :-1], p[:, 1:]
    middle = 0.5 * (left + right)
    jsd = 0.5 * (left * (left / middle).log() + right * (right / middle).log()).sum(-1)
    return plain + par["smoothness"] * (jsd * ((y[:, 1:] >= 0) & (y[:, :-1] >= 0))).sum(1)


def torch_cross_entropy(torch, z, y, *, weight=None, smoothing=0.0):
    return torch.nn.functional.cross_entropy(z, y, weight=weight, label_smoothing=smoothing, reduction="none")


def torch_bce(torch, z, y, par):
    f = torch.nn.functional
    return f.binary_cross_entropy_with_logits(z, y.to(z.dtype), pos_weight=par["positive_weight"], reduction="none")


TORCH = {
    "cross_entropy": lambda t, z, y, _: torch_cross_entropy(t, z, y),
    "weighted": lambda t, z, y, par: torch_cross_entropy(t, z, y, weight=par["class_weights"]),
    "focal": torch_class_focal,
    "label_smoothing": lambda t, z, y, par: torch_cross_entropy(t, z, y, smoothing=float(par["epsilon"])),
    "mixup": lambda t, z, y, _: torch_cross_entropy(t, z, y),
    "distillation": torch_distillation,
    "binary_cross_entropy": torch_bce,
    "multilabel_cross_entropy": lambda t, z, y, par: torch_bce(t, z, y, par).sum(1),
    "sigmoid_focal": torch_sigmoid_focal,
    "sequence_cross_entropy": torch_sequence,
}
