"""Packages for other build systems: what they hold, and that it compiles and tests itself."""

import shutil
import subprocess

import pytest

from export.c_code.packages import how_to_build
from export.c_code.project import RUNTIME_HEADERS, SOURCES, write_c
from tests.helpers.c_code import golden
from tests.helpers.small_network import NET

OWN = {
    "cmake": {"CMakeLists.txt", "test/main.c"},
    "arduino": {"library.properties", "examples/self_test/self_test.ino"},
    "zephyr": {
        *("CMakeLists.txt", "Kconfig", "zephyr/module.yml"),
        *(f"samples/self_test/{name}" for name in ("CMakeLists.txt", "prj.conf", "src/main.c")),
    },
    "esp-idf": {
        *("CMakeLists.txt", "idf_component.yml", "examples/self_test/CMakeLists.txt"),
        *(f"examples/self_test/main/{name}" for name in ("CMakeLists.txt", "app_main.c", "main.c")),
    },
}

ARDUINO_H = """
#pragma once
#include <cstdint>
#include <iostream>
struct Port {
    void begin(long) {}
    template <class T> void print(T value) { std::cout << value; }
    template <class T> void println(T value) { std::cout << value << std::endl; }
};
static Port Serial;
void setup();
void loop();
"""

ZEPHYR = """
cmake_minimum_required(VERSION 3.20)
project(shim C)
set(CONFIG_TSN_NET y)
add_library(zephyr_interface INTERFACE)
macro(zephyr_library_named name)
    set(ZEPHYR_CURRENT_LIBRARY ${name})
    add_library(${name} STATIC)
    target_link_libraries(${name} PUBLIC zephyr_interface)
endmacro()
function(zephyr_library_sources)
    target_sources(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGN})
endfunction()
function(zephyr_include_directories)
    target_include_directories(zephyr_interface INTERFACE ${ARGN})
endfunction()
add_subdirectory(../package module)
add_executable(app)
target_link_libraries(app PRIVATE tsn_net)
macro(find_package)
endmacro()
macro(project)
endmacro()
include(../package/samples/self_test/CMakeLists.txt)
"""
"""Stands for Zephyr: its functions, as far as the module calls them. The sample's paths begin where it lies."""

ESP_IDF = """
cmake_minimum_required(VERSION 3.16)
project(shim C)
function(idf_component_register)
    cmake_parse_arguments(PARSE_ARGV 0 given "" "" "SRCS;SRC_DIRS;INCLUDE_DIRS")
    get_filename_component(name ${CMAKE_CURRENT_LIST_DIR} NAME)
    set(sources ${given_SRCS})
    foreach(folder ${given_SRC_DIRS})
        file(GLOB found ${CMAKE_CURRENT_LIST_DIR}/${folder}/*.c)
        list(APPEND sources ${found})
    endforeach()
    add_library(${name} STATIC ${sources})
    foreach(folder ${given_INCLUDE_DIRS})
        target_include_directories(${name} PUBLIC ${CMAKE_CURRENT_LIST_DIR}/${folder})
    endforeach()
endfunction()
add_subdirectory(../package package)
add_subdirectory(../package/examples/self_test/main main)
target_link_libraries(main PRIVATE package)
file(WRITE ${CMAKE_BINARY_DIR}/start.c "void app_main(void); int main(void) { app_main(); return 0; }")
add_executable(app ${CMAKE_BINARY_DIR}/start.c)
target_link_libraries(app PRIVATE main)
"""
"""Stands for ESP-IDF: a component is a library, and main may use all others."""


def needs(*tools):
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")


def run(folder, *command):
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=300).stdout


def written(folder, package):
    write_c(NET, folder / "package", golden=golden(NET), package=package)
    return folder / "package"


@pytest.mark.parametrize("package", OWN)
def test_a_package_has_the_sources_and_what_its_build_system_reads(tmp_path, package):
    made = written(tmp_path, package)
    files = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
    sources = {f"src/{name}" for name in (*RUNTIME_HEADERS, *SOURCES, "tsn_net.h", "golden.h")}
    assert files - {"manifest.json"} == sources | OWN[package] | {"README.md"}
    assert how_to_build(package) in (made / "README.md").read_text()


def test_cmake_builds_the_library_and_runs_the_self_test(tmp_path):
    needs("cmake", "gcc")
    made = written(tmp_path, "cmake")
    run(made, "cmake", "-B", "build", "-DCMAKE_C_FLAGS=-Wall -Wextra -Werror")
    run(made, "cmake", "--build", "build")
    assert "100% tests passed, 0 tests failed out of 1" in run(made, "ctest", "--test-dir", "build")


def test_arduino_compiles_sources_as_c_and_the_sketch_as_cplusplus(tmp_path):
    needs("gcc", "g++")
    made = written(tmp_path, "arduino")
    properties = dict(line.split("=", 1) for line in (made / "library.properties").read_text().splitlines())
    assert {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url"} <= set(properties)
    assert properties["includes"] == "tsn_net.h"
    (tmp_path / "Arduino.h").write_text(ARDUINO_H)
    sketch = (made / "examples/self_test/self_test.ino").read_text()
    end = "\nint main() { setup(); loop(); return 0; }\n"
    (tmp_path / "sketch.cpp").write_text(f"#include <Arduino.h>\n{sketch}{end}")
    flags = ["-Wall", "-Wextra", "-Werror", "-I.", "-Ipackage/src"]
    run(tmp_path, "gcc", "-std=gnu11", *flags, "-c", *(f"package/src/{name}" for name in SOURCES))
    objects = [name.replace(".c", ".o") for name in SOURCES]
    run(tmp_path, "g++", "-std=gnu++11", *flags, "-o", "sketch", "sketch.cpp", *objects)
    assert run(tmp_path, "./sketch").splitlines()[-1] == "PASS"


@pytest.mark.parametrize(("package", "shim"), [("zephyr", ZEPHYR), ("esp-idf", ESP_IDF)])
def test_modules_and_components_build_with_stand_ins_for_their_functions(tmp_path, package, shim):
    needs("cmake", "gcc")
    made = written(tmp_path, package)
    (tmp_path / "shim").mkdir()
    (tmp_path / "shim" / "CMakeLists.txt").write_text(shim)
    if package == "zephyr":
        (tmp_path / "shim" / "src").symlink_to(made / "samples/self_test/src")
    run(tmp_path, "cmake", "-S", "shim", "-B", "build", "-DCMAKE_C_FLAGS=-Wall -Wextra -Werror")
    run(tmp_path, "cmake", "--build", "build")
    assert run(tmp_path, "build/app").splitlines()[-1] == "PASS: 2 tasks, 6 golden inputs"
