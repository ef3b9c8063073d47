"""What decides a trial's result: batches, augmentation, the loop, the chain of stages."""
