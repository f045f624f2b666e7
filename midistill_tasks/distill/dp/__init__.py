"""DP-SGD (Abadi et al. 2016): what it spends, gradients of single texts, the training, and what it guarantees."""
