"""The one writer of video files: every frame is on disk, and playable, as soon as it is written."""

from edgefel.data.recording.writer import VIDEO_SUFFIXES_WRITTEN, VideoWriter, check_video_target

__all__ = ["VIDEO_SUFFIXES_WRITTEN", "VideoWriter", "check_video_target"]
