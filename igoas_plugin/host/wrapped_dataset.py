from torch.utils.data import Dataset


class WrappedDataset(Dataset):
    """A data set around another one, whose attributes are its own too.

    Args:
        data_set: the host's or a user's.
    """

    def __init__(self, data_set: Dataset):
        self.data_set = data_set

    def __getattr__(self, name: str):
        if name == "data_set":  # while it is unpickled
            raise AttributeError(name)
        return getattr(self.data_set, name)

    def __len__(self) -> int:
        return len(self.data_set)
