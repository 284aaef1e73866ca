"""Writing video files that can be played after every frame."""

from edgefel.data.recording.writer import VideoWriter, check_video_target

__all__ = ["VideoWriter", "check_video_target"]
