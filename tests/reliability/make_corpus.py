"""Writes the specimens of faults, by kind, that `tests/reliability/corpus/` has for the readers of graphs, zips and text.

    python -m tests.reliability.make_corpus

A name that begins with `sound_` is of a file that must be read, all others of files that must be refused. The rest of the corpus was found
by drawing inputs (`tests.reliability.fuzz`).
"""

import gzip
import io
import json
import shutil
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.reliability.fuzz import CORPUS
from tests.reliability.reader import Files, write
from tests.reliability.readers import (
    foreign_onnx,
    keras_file,
    manifest,
    onnx_file,
    published_settings,
    recipe,
    reranking,
    run_folder,
    saved_model,
    search_part,
    store,
    tar_shards,
    training_state,
)
from tests.reliability.safetensors_files import encode, layout
from zoo.manifest import PLACE

LARGEST = 8000
"""Bytes of a specimen."""
BOM = b"\xef\xbb\xbf"
DEEP, DIGITS = 2000, 5000


def texts(valid: bytes) -> dict[str, bytes]:
    """What editors, spreadsheets and attackers make of a JSON text."""
    assert valid.lstrip().startswith(b"{")
    first = valid.lstrip()[1:]
    return {
        "sound_byte_order_mark": BOM + valid,
        "utf_16": valid.decode().encode("utf-16"),
        "latin_1": b'{"caf\xe9": 1, ' + first,
        "nul": valid + b"\0",
        "nul_first": b"\0" + valid,
        "deep_lists": b"[" * DEEP,
        "deep_mappings": b'{"a":' * (DEEP // 5) + b"1" + b"}" * (DEEP // 5),
        "digits": b'{"a": ' + b"9" * DIGITS + b"}",
        "not_a_number": b'{"a": NaN, ' + first,
        "infinity": b'{"a": -Infinity, ' + first,
        "beyond_float": b'{"a": 1e999, ' + first,
        "half_a_surrogate": b'{"a": "\\ud800", ' + first,
        "half_a_surrogate_as_key": b'{"\\udfff": 1, ' + first,
        "key_twice": b'{"a": 1, "a": 2, ' + first,
        "list": b"[" + valid + b"]",
        "null": b"null",
        "text": b'"a"',
        "empty": b"",
        "two_values": valid + valid[:1],
        "cut": valid[: len(valid) // 2],
    }


def onnx_files() -> dict[str, bytes]:
    """Tensors that claim more than they hold, weights elsewhere, operators that spread, graphs in graphs."""

    whole = onnx_file._MODEL

    def changed(edit: Callable[[onnx.ModelProto], Any]) -> bytes:
        model = onnx.ModelProto.FromString(whole)
        edit(model)
        return model.SerializeToString(deterministic=True)

    def claiming(*dims: int) -> bytes:
        def edit(model: onnx.ModelProto) -> None:
            model.graph.initializer[0].dims[:] = dims

        return changed(edit)

    def elsewhere(location: str) -> bytes:
        def edit(model: onnx.ModelProto) -> None:
            tensor = model.graph.initializer[0]
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value=location)

        return changed(edit)

    def adding(operator: str, *inputs: str, **attributes: Any) -> bytes:
        def edit(model: onnx.ModelProto) -> None:
            model.graph.initializer.append(numpy_helper.from_array(np.array([2**20, 2**20]), "large"))
            model.graph.initializer.append(numpy_helper.from_array(np.array([0, 0, 2**40, 0]), "pads"))
            model.graph.node.append(helper.make_node(operator, inputs, ["big"], **attributes))

        return changed(edit)

    def broadcast(model: onnx.ModelProto) -> None:
        """Much of little: four axes of 120 each."""
        for axis in range(4):
            shape = [120 if number == axis else 1 for number in range(4)]
            model.graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), f"axis{axis}"))
            inputs = [f"axis{axis}", f"sum{axis - 1}" if axis else f"axis{axis}"]
            model.graph.node.append(helper.make_node("Add", inputs, [f"sum{axis}"]))

    def not_a_number(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full((4, 3, 3, 3), np.nan, np.float32), "w"))

    def joining(model: onnx.ModelProto) -> None:
        for level in range(30):
            inputs = [f"join{level}" if level else "s"] * 2
            model.graph.node.append(helper.make_node("Concat", inputs, [f"join{level + 1}"], axis=0))

    def padding(model: onnx.ModelProto) -> None:
        next(item for item in model.graph.node[0].attribute if item.name == "pads").ints[:] = [20_000] * 4

    def nested(levels: int) -> bytes:
        """Graphs in attributes of nodes of graphs: fields 1, 5 and 6. The library's own classes stop at a hundred."""
        inner = b""
        for _ in range(levels):
            for number in (6, 5, 1):
                inner = _field(number, inner)
        return whole + _field(7, inner)

    def metadata(value: str) -> bytes:
        def edit(model: onnx.ModelProto) -> None:
            [entry] = [item for item in model.metadata_props if item.key == "spec"]
            entry.value = value

        return changed(edit)

    return {
        "sound": whole,
        "empty": b"",
        "text": b"ONNX",
        "cut": whole[: len(whole) // 2],
        "terabytes": claiming(2**40),
        "product_overflows": claiming(2**32, 2**32),
        "negative_axis": claiming(-3),
        "nothing_of_something": claiming(0, 2**62),
        "thousand_axes": claiming(*[1] * 1000),
        "other_size": claiming(5),
        "weights_in_passwd": elsewhere("/etc/passwd"),
        "weights_above": elsewhere("../weights.bin"),
        "weights_on_the_net": elsewhere("http://example.invalid/weights"),
        "expand": adding("Expand", "d", "large"),
        "tile": adding("Tile", "d", "large"),
        "pad": adding("Pad", "d", "pads"),
        "constant_of_shape": adding("ConstantOfShape", "large"),
        "broadcasting": changed(broadcast),
        "joining_itself": changed(joining),
        "convolution_of_much_padding": changed(padding),
        "weights_not_a_number": changed(not_a_number),
        "python": adding("PyOp", "d", domain="ai.onnx.contrib"),
        "graphs_in_graphs": nested(200),
        "node_twice": changed(lambda model: model.graph.node.extend(list(model.graph.node))),
        "spec_deep": metadata("[" * DEEP),
        "spec_digits": metadata('{"name": ' + "9" * 4000 + "}"),
        "spec_null": metadata("null"),
    }


def _field(number: int, content: bytes) -> bytes:
    """A field of a protobuf with its length; content below 16 KiB."""
    size = len(content)
    length = bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])
    return bytes([number << 3 | 2]) + length + content


def saved_models() -> dict[str, Files]:
    """Graphs that stand for much more than they hold, or would do more than compute."""

    def changed(edit: Callable[[Any], Any], **files: bytes) -> Files:
        model = saved_model.saved_model_pb2.SavedModel.FromString(saved_model._MODEL)
        edit(model.meta_graphs[0])
        return {"saved_model.pb": model.SerializeToString(deterministic=True)} | files

    def function(meta: Any) -> Any:
        return meta.graph_def.library.function[0]

    def call_itself(meta: Any) -> None:
        function(meta).node_def.add(name="again", op="f").input.extend(["a", "b"])

    def call_in_a_circle(meta: Any) -> None:
        made = meta.graph_def.library.function.add()
        made.signature.name = "g"
        made.node_def.add(name="back", op="PartitionedCall").attr["f"].func.name = "f"
        function(meta).node_def.add(name="there", op="PartitionedCall").attr["f"].func.name = "g"

    def double(meta: Any) -> None:
        for level in range(30):
            made = meta.graph_def.library.function.add()
            made.signature.name = f"g{level}"
            for copy in range(2):
                made.node_def.add(name=f"n{copy}", op=f"g{level - 1}" if level else "f")

    def chain(meta: Any) -> None:
        for level in range(100):
            made = meta.graph_def.library.function.add()
            made.signature.name = f"g{level}"
            made.node_def.add(name="n", op=f"g{level - 1}" if level else "f")

    def claim(*dims: int) -> Callable[[Any], None]:
        def edit(meta: Any) -> None:
            shape = next(n for n in meta.graph_def.node if n.name == "weight").attr["value"].tensor.tensor_shape
            del shape.dim[:]
            for size in dims:
                shape.dim.add(size=size)

        return edit

    def operator(name: str) -> Callable[[Any], Any]:
        return lambda meta: function(meta).node_def.add(name="canary", op=name)

    def output(name: str) -> Callable[[Any], None]:
        def edit(meta: Any) -> None:
            meta.signature_def["serving_default"].outputs["global_descriptor"].name = name

        return edit

    def made(operator: str, *values: Any, **types: int) -> Callable[[Any], None]:
        """A large tensor of small constants, behind which a shape is read."""

        def edit(meta: Any) -> None:
            nodes = meta.graph_def.node
            for number, value in enumerate((*values, np.array([0], np.int32), np.array([1], np.int32))):
                constant = saved_model._node(nodes, f"small{number}", "Const", dtype=3)
                constant.attr["value"].tensor.CopyFrom(saved_model.tensor_util.make_tensor_proto(value))
            inputs = [f"small{number}" for number in range(len(values))]
            saved_model._node(nodes, "big", operator, inputs, **types)
            last = ["big", f"small{len(values)}", f"small{len(values) + 1}"]
            saved_model._node(nodes, "part", "Slice", last, T=3, Index=3)
            saved_model._node(nodes, "reshaped", "Reshape", ["weight", "part"], T=1, Tshape=3)
            next(n for n in nodes if n.name == "call").input[1] = "reshaped"

        return edit

    def initialise(meta: Any) -> None:
        meta.graph_def.node.add(name="canary", op="SaveV2")
        meta.collection_def["saved_model_main_op"].node_list.value.append("canary")

    def loop(meta: Any) -> None:
        next(n for n in meta.graph_def.node if n.name == "cast").input[0] = "mean"

    whole = saved_model._MODEL
    operators = ("PyFunc", "PyFuncStateless", "ReadFile", "WriteFile", "DatasetFromGraph", "RpcClient", "NoSuchOp")
    return {
        "sound": {"saved_model.pb": whole},
        "function_calls_itself": changed(call_itself),
        "functions_in_a_circle": changed(call_in_a_circle),
        "functions_doubling": changed(double),
        "functions_in_a_chain": changed(chain),
        "terabytes": changed(claim(2**40)),
        "product_overflows": changed(claim(2**62, 2**62)),
        "negative_axis": changed(claim(-1)),
        "thousand_axes": changed(claim(*[1] * 1000)),
        "output_of_nothing": changed(output("none:0")),
        "output_index_of_text": changed(output("call:x")),
        "output_index_of_digits": changed(output("call:" + "9" * 4500)),
        "graph_in_a_circle": changed(loop),
        "asset_above": changed(lambda meta: meta.asset_file_def.add(filename="../../etc/passwd")),
        "initialiser_saves": changed(initialise),
        "fill": changed(made("Fill", np.array([1 << 29], np.int32), np.int32(3), T=3, index_type=3)),
        "range": changed(made("Range", np.int32(0), np.int32(1 << 29), np.int32(1), Tidx=3)),
        "tile": changed(made("Tile", np.array([3], np.int32), np.array([1 << 29], np.int32), T=3, Tmultiples=3)),
        "pad": changed(made("Pad", np.array([3], np.int32), np.array([[0, 1 << 29]], np.int32), T=3, Tpaddings=3)),
        "two_graphs": {"saved_model.pb": whole + whole},
        "empty": {"saved_model.pb": b""},
        "cut": {"saved_model.pb": whole[: len(whole) // 2]},
        "none": {"variables/variables.index": b""},
    } | {f"operator_{name}": changed(operator(name)) for name in operators}


def zips() -> dict[str, bytes]:
    """Zips whose names lead elsewhere, and whose directories lie."""

    def made(
        *names: str, mode: int = 0o100644, method: int = zipfile.ZIP_STORED, content: bytes = b"abc" * 20
    ) -> bytes:
        buffer = io.BytesIO()
        with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as archive:
            warnings.simplefilter("ignore")  # a name twice
            for name in names:
                entry = zipfile.ZipInfo(name)
                entry.compress_type, entry.external_attr = method, mode << 16
                archive.writestr(entry, content)
        return buffer.getvalue()

    def lying(field: int, value: int, width: int, whole: bytes) -> bytes:
        """The directory's first entry with another number at `field`."""
        place = whole.index(b"PK\x01\x02") + field
        return whole[:place] + value.to_bytes(width, "little") + whole[place + width :]

    whole = made("saved_model.pb", method=zipfile.ZIP_DEFLATED)
    end = whole.index(b"PK\x05\x06")
    return {
        "sound": whole,
        "sound_with_a_comment": whole[:-2] + b"\x03\x00abc",
        "above": made("../escaped"),
        "above_further_down": made("a/b/../../../escaped"),
        "absolute": made("/tmp/escaped"),
        "of_windows": made("a\\..\\..\\escaped"),
        "drive": made("C:/escaped"),
        "link": made("saved_model.pb", mode=0o120777, content=b"/etc/passwd"),
        "name_twice": made("saved_model.pb", "saved_model.pb"),
        "name_twice_in_another_case": made("saved_model.pb", "Saved_Model.pb"),
        "file_and_folder": made("variables", "variables/a"),
        "deep_name": made("/".join("a" * 500)),
        "long_name": made("a" * 1500),
        "name_of_dots": made("."),
        "name_with_nul": made("saved_model.pb").replace(b"saved_model.pb", b"saved\0model.pb"),
        "size_of_gigabytes": lying(24, 2**31 - 1, 4, whole),
        "size_too_small": lying(24, 1, 4, whole),
        "checksum": lying(16, 0, 4, whole),
        "encrypted": lying(8, 1, 2, whole),
        "method_unknown": lying(10, 99, 2, whole),
        "method_of_lzma": made("saved_model.pb", method=zipfile.ZIP_LZMA),
        "place_beyond_the_end": lying(42, 2**31 - 1, 4, whole),
        "other_name_at_the_place": whole.replace(b"saved_model.pb", b"other_model.pb", 1),
        "directory_of_gigabytes": whole[: end + 12] + (2**31 - 1).to_bytes(4, "little") + whole[end + 16 :],
        "entries_beyond_count": whole[: end + 8] + b"\x07\x00\x07\x00" + whole[end + 12 :],
        "cut": whole[:-30],
        "empty": b"",
        "tail_only": whole[end:].replace(b"\x01\x00", b"\x00\x00"),
    }


def recipes() -> dict[str, bytes]:
    """YAML that multiplies, nests, names types, or is a number where there should be none."""
    valid = recipe._VALID
    laughs = "a0: &a0 [lol]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    tags = (
        "!!python/object/apply:os.system [touch executed]",
        "!!int abc",
        "!!timestamp 2001-01-01",
        "!!binary x",
        "!!set {a, b}",
    )
    values = {
        "digits": b"9" * DIGITS,
        "infinity": b".inf",
        "not_a_number": b".nan",
        "beyond_float": b"1e400",
        "date": b"2001-12-14",
        "sexagesimal": b"1:30:10",
        "half_a_surrogate": b'"\\uD800"',
        "alias_of_nothing": b"*a",
        "list_in_itself": b"&a [*a]",
    } | {f"tag_{number}": tag.encode() for number, tag in enumerate(tags)}
    return {
        "sound": valid,
        "sound_byte_order_mark": BOM + valid,
        "sound_carriage_returns": valid.replace(b"\n", b"\r\n"),
        "aliases_multiply": laughs.encode(),
        "merge_key": b"<<: {models: [resnet18]}\n" + valid,
        "deep_lists": b"[" * DEEP,
        "deep_mappings": b"{a: " * (DEEP // 2),
        "deep_dashes": b"- " * DEEP,
        "key_twice": valid + b"batch_size: 64\n",
        "utf_16": valid.decode().encode("utf-16"),
        "latin_1": valid + b"# caf\xe9\n",
        "nul": valid + b"\0",
        "tab": valid.replace(b"  - ", b"\t- "),
        "two_documents": valid + b"---\n" + valid,
        "empty": b"",
        "null": b"null",
        "list": b"[1]",
        "complex_key": b"? [a, b]\n: 1\n" + valid,
    } | {f"scale_{name}": valid.replace(b"30.0", value) for name, value in values.items()}


def in_file(name: str, specimens: Mapping[str, bytes], valid: Mapping[str, bytes]) -> dict[str, Files]:
    """Specimens of one file of a folder."""
    return {key: {**valid, name: content} for key, content in specimens.items()}


def training_states() -> dict[str, Files]:
    """Manifests, shards and histories of which one is not what it should be."""
    valid, titles = training_state._VALID, training_state._TITLES
    manifest, unfinished, finished = training_state._MANIFEST, training_state._HISTORY, training_state._FINISHED
    line, second, third = training_state._LINES
    lines = {
        "step_missing": line,
        "step_twice": line + line + second,
        "no_end_of_line": line + second[:-1],
        "empty_line": line + b"\n" + second,
        "loss_of_text": line + second.replace(b"2.5", b'"2.5"'),
        "loss_of_truth": line + second.replace(b"2.5", b"true"),
        "loss_not_a_number": line + second.replace(b"2.5", b"nan"),
        "loss_beyond_float": line + second.replace(b"2.5", b"1e999"),
        "digits": line + b"9" * DIGITS + second,
        "underscore": line + second.replace(b"64", b"6_4"),
        "carriage_returns": (line + second).replace(b"\n", b"\r\n"),
        "utf_16": (line + second).decode().encode("utf-16"),
        "nul": line + second.replace(b",", b"\0", 1),
        "sound_one_step_more": line + second + third,
        "sound_skipped": line + second.replace(b"1.0\n", b"inf\n"),
    }
    histories = {name: titles + content for name, content in lines.items()}
    histories |= {"no_titles": line + second, "other_titles": titles.replace(b"loss", b"cost") + line + second}
    made: dict[str, Files] = {"sound": valid}
    made |= in_file(manifest, texts(valid[manifest]), valid)
    made |= in_file(unfinished, histories, valid)
    ahead = {name: content for name, content in histories.items() if name != "step_missing"}  # one is a whole history
    made |= {f"{name}_finished": files for name, files in in_file(finished, ahead, valid).items()}
    return made | _shards(valid)


def _shards(valid: Mapping[str, bytes]) -> dict[str, Files]:
    """States whose shards do not fit together; the manifest knows their sizes."""
    arrays, headers = training_state._ARRAYS, training_state._METADATA

    def state(first: bytes | None = None, second: bytes | None = None) -> Files:
        whole = training_state._SHARDS
        return training_state._state((whole[0] if first is None else first, whole[1] if second is None else second))

    def second(cuts: object, **header: str) -> Files:
        text = cuts if isinstance(cuts, str) else json.dumps(cuts)
        return state(second=encode(*layout(arrays[1], headers[1] | {"cuts": text} | header)))

    name = "w/classes"
    ranges = {
        "gap": [1, 2, 3],
        "backwards": [3, 2, 3],
        "beyond": [3, 4, 4],
        "negative": [-1, 0, 3],
        "huge": [2**62, 2**62 + 1, 2**62 + 1],
        "text": ["2", 3, 3],
        "truth": [True, 2, 3],
        "two": [2, 3],
    }
    rank, missing = training_state._PLACES
    return {
        **{f"rows_{kind}": second({name: numbers}) for kind, numbers in ranges.items()},
        "rows_of_no_tensor": second({"x": [0, 1, 1]}),
        "rows_nested_deep": second("[" * DEEP),
        "rows_of_digits": second(f'{{"{name}": [2, 3, {"9" * DIGITS}]}}'),
        "rows_null": second("null"),
        "another_step": second({name: [2, 3, 3]}, step="1"),
        "another_run": second({name: [2, 3, 3]}, run="0" * 64),
        "same_process_twice": state(second=training_state._SHARDS[0]),
        "tensor_of_integers": state(encode(*layout(arrays[0] | {"w/conv": np.ones((2, 3, 1, 1), "i8")}, headers[0]))),
        "two_types": state(second=encode(*layout(arrays[1] | {name: np.ones((1, 2))}, headers[1]))),
        "own_of_integers": state(encode(*layout(arrays[0] | {"own/bn": np.ones(1, "i8")}, headers[0]))),
        "shard_missing": {key: content for key, content in valid.items() if key != missing},
        "shard_empty": state(b""),
        "shard_cut": {**valid, rank: valid[rank][:-1]},
        "shard_outside": {
            **valid,
            training_state._MANIFEST: valid[training_state._MANIFEST].replace(b'"2-0.', b'"../2-0.'),
        },
    }


def tars() -> dict[str, Files]:
    """Every kind of name, and members that claim more than there is."""
    one, two, end = f"{tar_shards.IDS[0]}.jpg", f"{tar_shards.IDS[1]}.jpg", bytes(1024)
    whole, long_name = tar_shards.tar([one, two]), f"{'d' * 300}/{one}"
    header = tar_shards.header
    made = {
        "sound": whole,
        "sound_long_name_of_gnu": tar_shards.tar([long_name], tarfile.GNU_FORMAT),
        "sound_extended_header": tar_shards.tar([long_name], tarfile.PAX_FORMAT),
        "sound_other_members": header("a/", b"0" * 12, b"5") + header("README", b"0" * 12) + end,
        "no_end": whole[:-1024],
        "cut_in_a_member": whole[:1100],
        "cut_in_a_header": whole[:700],
        "empty": b"",
        "page_of_a_website": b"<html>not found</html>" * 40,
        "compressed": gzip.compress(whole, mtime=0),
        "same_id_twice": tar_shards.tar([one, f"other/{one}"]),
        "wrong_checksum": bytes([whole[0] ^ 1]) + whole[1:],
        "damaged_later": whole[:512] + b"\x07" + whole[513:],
        "content_of_8_gib": header(one, b"77777777777\0") + end,
        "content_of_2e26_bytes": header(one, b"\x80" + b"\xff" * 11) + end,
        "negative_content": header(one, b"\xff" * 12) + end,
        "digits_that_are_not_octal": header(one, b"00000000089\0") + end,
        "name_of_8_gib": header("././@LongLink", b"77777777777\0", b"L") + end,
        "size_of_20_digits_told_apart": header("x", b"%011o\0" % 28, b"x")
        + b"28 size=9999999999999999999\n".ljust(512, b"\0")
        + header(one, b"0" * 12)
        + end,
    }
    return {name: {tar_shards.PLACE: content} for name, content in made.items()}


def specimens() -> dict[str, dict[str, Files]]:
    """All of them: {reader: {name: files}}."""
    cost, run = run_folder._VALID["seconds.json"], run_folder._VALID["run.json"]
    few = ("key_twice", "not_a_number", "deep_lists", "null")
    rows = {name: b"[" + content + b"]" for name, content in texts(json.dumps(run_folder._ROW).encode()).items()}
    return {
        "onnx_file": onnx_files(),
        "foreign_onnx": dict(foreign_onnx.SPECIMENS),
        "keras_file": dict(keras_file.SPECIMENS),
        "published_settings": dict(published_settings.SPECIMENS),
        "saved_model": saved_models(),
        "zip_submission": zips(),
        "recipe": recipes(),
        "manifest": in_file(str(PLACE), texts(manifest._VALID), {}),
        "reranking": texts(reranking._VALID),
        "store": {
            **in_file("store.json", texts(store._VALID["store.json"]), store._VALID),
            **{f"hostile_{number}": store._VALID | changed for number, changed in enumerate(store._REFUSED)},
            **{f"sound_{number}": store._VALID | changed for number, changed in enumerate(store._READ)},
        },
        "search_part": dict(search_part.SPECIMENS),
        "training_state": training_states(),
        "tar_shards": tars(),
        "json_file": {name: c for name, c in texts(b'{"b": 1}').items() if name not in ("list", "null", "text")},
        "run_folder": {
            **in_file("seconds.json", {f"{name}_seconds": c for name, c in texts(cost).items()}, run_folder._VALID),
            **in_file("run.json", {f"{name}_run": texts(run)[name] for name in few}, run_folder._VALID),
            **in_file("parity.json", {f"{name}_parity": rows[name] for name in few}, run_folder._VALID),
        },
    }


def main() -> None:
    """Command line."""
    for reader, made in specimens().items():
        shutil.rmtree(CORPUS / reader, ignore_errors=True)
        for name, files in made.items():
            place = CORPUS / reader / name
            place.parent.mkdir(parents=True, exist_ok=True)
            size = write(files, place)
            assert size <= LARGEST, f"{reader}/{name} has {size:,} bytes"
    print(CORPUS)


if __name__ == "__main__":
    main()
