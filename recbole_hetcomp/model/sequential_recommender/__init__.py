"""Sequential recommenders that RecBole lacks."""
