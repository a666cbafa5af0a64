"""Reads the inspector's answers as its page does, into plain data."""

from __future__ import annotations

from datetime import datetime
from typing import Any


def read_node(node: Any) -> Any:
    """The value of a node that was sent whole."""
    return _read(node, 0)[0]


def state_in(window: dict[str, Any], seq: int) -> tuple[Any, Any]:
    """Working memory and setters at a seq of a window, made of its state and the writes after it."""
    memory, setters = _read(window["state"], 0)
    for event in window["events"]:
        if event["seq"] > seq:
            break
        for path, *rest in event["writes"]:
            if not path:
                memory, setters = _read(rest[0], rest[1])
            elif rest:
                value, marks = _read(rest[0], rest[1])
                _put(memory, path, value)
                _put(setters, path, marks)
            else:
                _drop(memory, path)
                _drop(setters, path)
    return memory, setters


def _read(node: Any, seq: int) -> tuple[Any, Any]:
    if type(node) is not dict:
        return node, seq
    kind = node["$"]
    if kind == "dict":
        assert node["n"] == len(node.get("c", []))
        pairs = {key: _read(value, at) for key, value, at in node.get("c", [])}
        return {key: value for key, (value, _) in pairs.items()}, {key: mark for key, (_, mark) in pairs.items()}
    if kind == "list":
        assert node["n"] == len(node.get("c", []))
        read = [_read(value, at) for value, at in node.get("c", [])]
        return [value for value, _ in read], [mark for _, mark in read]
    if kind == "int":
        return int(node["v"]), seq
    if kind == "float":
        return float(node["v"]), seq
    if kind == "bytes":
        return bytes.fromhex(node["v"]), seq
    if kind == "time":
        return datetime.fromisoformat(node["v"]), seq
    raise AssertionError(node)


def _put(root: Any, path: list[str], value: Any) -> None:
    container = _container(root, path)
    last = path[-1]
    if isinstance(container, dict):
        container[last] = value
    elif int(last) == len(container):
        container.append(value)
    else:
        container[int(last)] = value


def _drop(root: Any, path: list[str]) -> None:
    container = _container(root, path)
    if isinstance(container, dict):
        del container[path[-1]]
    else:
        del container[int(path[-1])]


def _container(root: Any, path: list[str]) -> Any:
    for segment in path[:-1]:
        root = root[int(segment)] if isinstance(root, list) else root[segment]
    return root
