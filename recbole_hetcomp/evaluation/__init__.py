"""Tables: accuracy, size, speed and closeness to the ensemble; whether two models differ by more than chance."""
