"""How an image becomes what a network takes: the names; kpurun.images has the recipes."""

PREPROCESSES = ("imagenet", "yolo", "none")
