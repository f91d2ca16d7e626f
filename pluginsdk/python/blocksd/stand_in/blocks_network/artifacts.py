from blocksd.project.types import ArtifactRef, DownloadedArtifact

__all__ = ["ArtifactRef", "DownloadedArtifact"]
