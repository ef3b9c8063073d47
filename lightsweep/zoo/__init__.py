"""The shipped nets, a file each: `build(shape, classes, *, …)`, as a user's own net has it."""
