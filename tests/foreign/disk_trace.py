"""What a traced process did to its files, and what a power cut may have left of it.

`Disk(trace, directory, base)` reads what `strace -f -ttt -xx` wrote about a process that works in
`directory`, of which `base` is a copy from before. `Disk.image(line, how, …)` gives the files as they
may be found after a power cut at that line of the trace:

- What was written before a sync of the file began, and that sync was over, is there.
- Of everything else each write is there or not, in any order, or with some of its sectors only.
- Of changes of names, those before a synced directory are there, and of the later ones any first part
  (a journaling file system keeps their order).

What is not modelled (writing through a mapping, io_uring, …) is an error, not a gap.
"""

import os
import re
from dataclasses import dataclass, field

SECTOR = 512
CALLS = (
    "openat,open,creat,close,write,pwrite64,writev,pwritev,pwritev2,fdatasync,fsync,syncfs,lseek,"
    "ftruncate,truncate,fallocate,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,"
    "link,linkat,symlink,symlinkat,dup,dup2,dup3,fcntl,mmap,copy_file_range,sendfile,splice,"
    "sync_file_range,io_uring_setup,io_submit"
)
LINE = re.compile(r"(\d+) +(\d+\.\d+) (?:<\.\.\. )?(\w+)(\(| resumed>)(.*)")
HEX = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
RETURNED = re.compile(r"\) += (-?\d+|\?)")
# Harmless whatever they are called on: none of them promises anything about the disk.
IGNORED = {"sync_file_range"}
MAKES_NUMBERS = {"openat", "open", "creat", "fcntl", "dup", "dup2", "dup3"}


class NotModelled(Exception):
    pass


@dataclass(eq=False)
class Node:
    base: bytes = b""
    effects: list = field(default_factory=list)
    # Of each sync: when it began, when it was over, its call.
    syncs: list = field(default_factory=list)
    is_directory: bool = False


@dataclass
class Effect:
    entered: int
    left: float
    offset: int
    data: bytes | None  # None: cut to `offset` bytes


@dataclass
class Naming:
    entered: int
    left: float
    directory: str
    change: dict  # path: node, or None where it is removed


@dataclass
class Open:
    node: Node | None
    path: str
    offset: int = 0
    append: bool = False


def text(argument):
    found = HEX.search(argument)
    if found is None or found[2]:
        raise NotModelled(f"an argument that is cut off: {argument[:80]}")
    return bytes.fromhex(found[1].replace("\\x", ""))


def calls(path):
    """(name, arguments, result, entered, left) in the order in which they began; times by line."""
    begun, order, times = {}, [], []
    with open(path, encoding="ascii", errors="strict") as lines:
        for at, line in enumerate(lines):
            found = LINE.match(line)
            times.append(float(found[2]) if found else times[-1] if times else 0.0)
            if not found:
                continue
            pid, _, name, kind, rest = found.groups()
            if kind == "(":
                call = [name, rest, None, at, float("inf")]
                order.append(call)
                begun[pid] = call
                if rest.rstrip().endswith("<unfinished ...>"):
                    continue
            else:
                call = begun.get(pid)
                if call is None or call[0] != name:
                    continue
                call[1] += rest
            # The result is behind the last bracket; the data in front may be long.
            if result := RETURNED.search(call[1], max(0, len(call[1]) - 200)):
                call[2] = None if result[1] == "?" else int(result[1])
                call[4] = at
    return order, times


class Disk:
    def __init__(self, trace, directory, base):
        self.root = os.path.realpath(directory)
        self.base_names, self.directories = {}, {}
        for where, _, names in os.walk(base):
            below = os.path.relpath(where, base)
            below = "" if below == "." else below
            self.directories[below] = Node(is_directory=True)
            if below:
                self.base_names[below] = self.directories[below]
            for name in names:
                with open(os.path.join(where, name), "rb") as file:
                    self.base_names[os.path.join(below, name)] = Node(file.read())
        self.names, self.namings, self.files = dict(self.base_names), [], {}
        self.interesting = []
        order, self.times = calls(trace)
        # A number is taken when a file has been opened, and free when its closing begins.
        order.sort(key=lambda call: call[4] if call[0] in MAKES_NUMBERS else call[3])
        for call in order:
            self._take(*call)

    def _below(self, path):
        path = os.path.normpath(path)
        if path == self.root:
            return ""
        return path[len(self.root) + 1:] if path.startswith(self.root + "/") else None

    def _take(self, name, arguments, result, entered, left):
        # A call that did not come back may have done its work.
        if result is not None and result < 0:
            return
        if name in IGNORED:
            return
        take = getattr(self, "_" + name, None)
        if take is not None:
            take(arguments, result, entered, left)
        elif name in ("io_uring_setup", "io_submit"):
            raise NotModelled(name)
        elif name not in ("mmap", "fcntl") and self._touches(name, arguments):
            raise NotModelled(f"{name}({arguments[:120]}")

    def _touches(self, name, arguments):
        numbers = [int(n) for n in re.findall(r"(?:^|[ {=])(\d+)(?=,)", arguments)[:3]]
        first = self.files.get(numbers[0]) if numbers else None
        paths = [text(f'"{found[0]}"').decode() for found in HEX.findall(arguments)[:2]] \
            if name not in ("writev", "pwritev", "pwritev2") else []
        return first is not None or any(self._below(p) is not None for p in paths)

    def _mark(self, entered, left):
        self.interesting.append(entered)
        if left != float("inf"):
            self.interesting.append(left)

    def _path(self, arguments):
        """The path of a call, if it is of these files; from the root, or nothing can be said of it."""
        path = text(arguments).decode()
        number = re.match(r"(\d+), ", arguments)
        if number and not os.path.isabs(path) and int(number[1]) in self.files:
            raise NotModelled(f"a path below an open directory: {path}")
        return self._below(path)

    def _openat(self, arguments, result, entered, left):
        path = self._path(arguments)
        if result is None:
            return
        self.files.pop(result, None)
        if path is None:
            return
        if path in self.directories:
            self.files[result] = Open(self.directories[path], path)
            return
        flags = arguments[arguments.rindex('"'):]
        node = self.names.get(path)
        if node is None:
            node = Node()
            self._rename_to({path: node}, entered, left)
        elif "O_TRUNC" in flags:
            node.effects.append(Effect(entered, left, 0, None))
            self._mark(entered, left)
        self.files[result] = Open(node, path, append="O_APPEND" in flags)

    _open = _openat

    def _close(self, arguments, result, entered, left):
        # Another thread may get the number before this call has come back.
        self.files.pop(int(re.match(r"\d+", arguments)[0]), None)

    def _fcntl(self, arguments, result, entered, left):
        number, command = re.match(r"(\d+), (\w+)", arguments).groups()
        if command.startswith("F_DUPFD") and int(number) in self.files:
            self.files[result] = self.files[int(number)]

    def _mmap(self, arguments, result, entered, left):
        shared = re.search(r"PROT_WRITE.*MAP_SHARED\w*[^,]*, (\d+),", arguments)
        if shared and int(shared[1]) in self.files:
            raise NotModelled("a file that is written through a mapping")

    def _lseek(self, arguments, result, entered, left):
        file = self.files.get(int(re.match(r"\d+", arguments)[0]))
        if file is not None:
            file.offset = result

    def _write_at(self, file, data, offset, result, entered, left):
        data = data if result is None else data[:result]
        file.node.effects.append(Effect(entered, left, offset, data))
        self._mark(entered, left)

    def _pwrite64(self, arguments, result, entered, left):
        file = self.files.get(int(re.match(r"\d+", arguments)[0]))
        if file is not None:
            tail = arguments[arguments.rindex('"'):]
            offset = int(re.search(r", \d+, (\d+)", tail)[1])
            self._write_at(file, text(arguments), offset, result, entered, left)

    def _write(self, arguments, result, entered, left):
        file = self.files.get(int(re.match(r"\d+", arguments)[0]))
        if file is not None:
            if file.append:
                file.offset = len(content(file.node, file.node.effects))
            data = text(arguments)
            self._write_at(file, data, file.offset, result, entered, left)
            file.offset += len(data) if result is None else result

    def _ftruncate(self, arguments, result, entered, left):
        number, length = re.match(r"(\d+), (\d+)", arguments).groups()
        file = self.files.get(int(number))
        if file is not None:
            file.node.effects.append(Effect(entered, left, int(length), None))
            self._mark(entered, left)

    def _sync(self, call, arguments, result, entered, left):
        file = self.files.get(int(re.match(r"\d+", arguments)[0]))
        if file is not None and result == 0:
            file.node.syncs.append((entered, left, call))
            self._mark(entered, left)

    def _fsync(self, *call):
        self._sync("fsync", *call)

    def _fdatasync(self, *call):
        self._sync("fdatasync", *call)

    def _rename_to(self, change, entered, left):
        for path, node in change.items():
            if node is None:
                self.names.pop(path, None)
            else:
                self.names[path] = node
        directory = os.path.dirname(next(iter(change)))
        self.namings.append(Naming(entered, left, directory, change))
        self._mark(entered, left)

    def _mkdir(self, arguments, result, entered, left):
        path = self._path(arguments)
        if path is not None:
            self.directories[path] = Node(is_directory=True)
            self._rename_to({path: self.directories[path]}, entered, left)

    _mkdirat = _mkdir

    def _rmdir(self, arguments, result, entered, left):
        path = self._path(arguments)
        if path is not None:
            self.directories.pop(path)
            self._rename_to({path: None}, entered, left)

    def _rename(self, arguments, result, entered, left):
        old, new = (self._below(text(f'"{found[0]}"').decode()) for found in HEX.findall(arguments))
        if old is None and new is None:
            return
        if old is None or new is None or os.path.dirname(old) != os.path.dirname(new):
            raise NotModelled(f"a rename between directories: {old} {new}")
        if self.names[old].is_directory:
            raise NotModelled(f"a directory that is renamed: {old}")
        self._rename_to({old: None, new: self.names[old]}, entered, left)

    _renameat = _renameat2 = _rename

    def _unlink(self, arguments, result, entered, left):
        path = self._path(arguments)
        if path is not None:
            self._rename_to({path: None}, entered, left)

    _unlinkat = _unlink

    def image(self, line, choose, ignored=lambda path, call: False):
        """The files after a cut at `line`: {path: bytes}, and {path: None} for a directory. `choose`
        says what is kept of what was not synced; `ignored` which syncs are treated as if they had
        never been made."""
        names = dict(self.base_names)
        before = [naming for naming in self.namings if naming.entered < line]
        durable = 0
        for at, naming in enumerate(before):
            node = self.directories.get(naming.directory)
            if node is not None and naming.left < covered(node, line, lambda call: False):
                durable = at + 1
        for naming in before[:choose.first_part(durable, len(before))]:
            for path, node in naming.change.items():
                names[path] = node
                if node is None:
                    del names[path]
        files = {}
        for path, node in names.items():
            if node.is_directory:
                files[path] = None
                continue
            synced = covered(node, line, lambda call, path=path: ignored(path, call))
            kept = []
            for effect in node.effects:
                if effect.entered < line:
                    kept.extend([effect] if effect.left < synced else choose.kept(effect))
            files[path] = content(node, kept)
        return files

    def final(self):
        """The same when everything was done."""
        return {path: None if node.is_directory else content(node, node.effects)
                for path, node in self.names.items()}

    def rewrites(self):
        """Of each time that the store was written anew: the lines at which its new directory was
        made, at which it began to count, and at which the files before were gone."""
        found, begun = [], None
        for naming in self.namings:
            (path, node), *_ = naming.change.items()
            if node is not None and re.fullmatch(r"store/live-\d+", path):
                begun = naming.entered
            elif "store/live" in naming.change and begun is not None:
                found.append([begun, naming.entered, naming.entered])
                begun = None
            elif node is None and re.match(r"store/(live-|db$|conf$|snap|blobs)", path) and found:
                found[-1][2] = naming.entered
        return found


def covered(node, line, ignored):
    """What had come back before this line is on disk."""
    begun = [entered for entered, left, call in node.syncs if left < line and not ignored(call)]
    return max(begun, default=-1)


def content(node, effects):
    data = bytearray(node.base)
    for effect in effects:
        end = effect.offset if effect.data is None else effect.offset + len(effect.data)
        if effect.data is None:
            del data[end:]
        if len(data) < end:
            data.extend(bytes(end - len(data)))
        if effect.data is not None:
            data[effect.offset:end] = effect.data
    return bytes(data)


class Choice:
    """What of the unsynced is there after the cut."""

    HOW = ("dropped", "reordered", "torn")

    def __init__(self, how, random):
        self.how, self.random = how, random

    def first_part(self, durable, all_of_them):
        return durable if self.how == "dropped" else self.random.randint(durable, all_of_them)

    def kept(self, effect):
        if self.how == "dropped" or self.random.random() < 0.5:
            return []
        if self.how == "reordered" or effect.data is None:
            return [effect]
        parts, at = [], 0
        while at < len(effect.data):
            # Sectors of the file, not of the write.
            size = SECTOR - (effect.offset + at) % SECTOR
            if self.random.random() < 0.5:
                part = effect.data[at:at + size]
                parts.append(Effect(effect.entered, effect.left, effect.offset + at, part))
            at += size
        return parts
