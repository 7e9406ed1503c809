"""A step of training: what stays, what each phase needs, and the tables of software."""
