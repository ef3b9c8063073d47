"""Training of one trial: batches, augmentation, the training loop, the chain of stages."""
