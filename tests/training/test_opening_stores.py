import collections

import h5py


def test_a_run_opens_a_store_once(run, tiny_flags, stores, monkeypatch):
    opened = collections.Counter()
    real = h5py.File.__init__

    def counting(self, name, *args, **kwargs):
        opened[str(name)] += 1
        real(self, name, *args, **kwargs)

    monkeypatch.setattr(h5py.File, "__init__", counting)
    scenes = {"eval_dir_ms": stores / "test.h5", "test_dir": stores / "test.h5"}
    assert run("train", **tiny_flags, **scenes, epochs=1, cuda=0)[0] == 0
    assert opened[str(stores / "labelled.h5")] == 1
    assert opened[str(stores / "unlabelled.h5")] == 1
    # For validation, and for the test.
    assert opened[str(stores / "test.h5")] == 2
