"""oneDNN's integer convolutions through its own C interface.

torch has them too, but looks its primitive up and describes all of its memory again at every call:
25 µs, which is more than most layers of MobileNetV2 take. Here a primitive is made once, at load,
and a call costs 3 µs. See docs/adr/0016-onednn.md.
"""
