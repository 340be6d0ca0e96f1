"""The bundled tiny CLIP and its synthetic videos: for demonstrations, tests and CI, on any machine, with no download.

`scenes` draws a small world of coloured shapes, `library` makes videos of it and `tour` shows the program on them;
`captions`, `words`, `towers`, `muon`, `train` and `evaluate` made the model in `demo.npz`. It knows shapes, colours and
how well a picture was taken, not the world.
"""
