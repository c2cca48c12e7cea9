"""Event recordings: readers, integration to frames, data sets in bounded memory, a simulated camera.

Everything here needs numpy alone, except HDF5 (h5py) and the formats of cameras (faery).
"""

from tcja_deploy.events.dataset import EventData
from tcja_deploy.events.formats.atis import read_nmnist
from tcja_deploy.events.formats.numpy_files import read_event_npz, read_frames
from tcja_deploy.events.integrate import SplitBy, integrate
from tcja_deploy.events.opening import open_data
from tcja_deploy.events.recording import Events, make_events
from tcja_deploy.events.simulate import Camera, record, record_pixels, saccades

__all__ = [
    "Camera",
    "EventData",
    "Events",
    "SplitBy",
    "integrate",
    "make_events",
    "open_data",
    "read_event_npz",
    "read_frames",
    "read_nmnist",
    "record",
    "record_pixels",
    "saccades",
]
