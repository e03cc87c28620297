"""The index of the data sets: every loader, from the module that reads its files.

Each loader finds its files under `data_dir`, fetches or replaces them as `source` says (`loaders.files`), and
returns tensors of documented shape with metadata, a dictionary of plain values that a script prints and stores.
"""

from lstm_studies.loaders.files import DataError
from lstm_studies.loaders.messages import labelled_messages, spy_messages
from lstm_studies.loaders.mnist import mnist, own_images, read_idx, read_images
from lstm_studies.loaders.movement import movement_of_prices, stock_movement
from lstm_studies.loaders.prices import complete_symbols, own_prices, select_symbols, stock_prices
from lstm_studies.loaders.toy import generate_signals, scale_sequences, toy_signals, unscale_sequences
from lstm_studies.loaders.ts_files import read_ts, ts_split
from lstm_studies.loaders.vowels import japanese_vowels
