"""One RecBole dataset, split once; each user's training items; tensors on their way to the student's device."""
