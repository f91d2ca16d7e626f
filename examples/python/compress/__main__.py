import gzip
import tempfile

import blocksd


def handler(task: blocksd.Task) -> None:
    # Neither file is ever in memory as a whole.
    with task.open("file") as source, tempfile.TemporaryFile() as target:
        with gzip.open(target, "wb") as zipped:
            while piece := source.read(1 << 16):
                zipped.write(piece)
        target.seek(0)
        task.send(blocksd.Artifact(target, "application/gzip", "compressed.gz", "compressed"))


blocksd.serve(handler, card="agent-card.json")
