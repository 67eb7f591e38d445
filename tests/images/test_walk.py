"""What a walk records as images, as skipped and as hidden, by names alone."""

from pathlib import Path

from cnncodes.images.walk import Walk


def test_names_decide() -> None:
    walk = Walk()
    assert [walk.is_image(name) for name in ("a/1.PNG", "a.png/b", "notes.txt", ".png")] == [True, False, False, False]
    assert walk.passes_over("a/.hidden.png", is_folder=False)
    assert walk.passes_over("a/@eaDir", is_folder=True)
    assert walk.passes_over("Thumbs.db", is_folder=False)
    assert not walk.passes_over(".a/1.png", is_folder=False)  # whoever walks does not enter .a
    walk.skip("a/notes.TXT")
    walk.skip("a/README")
    assert walk.notes() == [
        "folders skipped, hidden or of a system: a/@eaDir",
        "files skipped, not images by their names: 1 .txt, 1 no suffix",
        "hidden image files skipped: 1",
    ]


def test_a_locked_folder_stands_for_its_images() -> None:
    walk = Walk()
    walk.folders |= {"", "a", "b"}
    walk.sources["a/1.png"] = Path("a/1.png")
    walk.lock("c", Path("c"), "no permission")
    assert list(walk.sources) == ["a/1.png", "c"]
    reason = "the folder cannot be listed, its images are missing: no permission"
    assert walk.failures == {"c": reason}
    assert walk.notes() == [f"c: {reason}", "folders without images: b"]
