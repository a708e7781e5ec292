"""The ONNX format: conversion, conditions put into the graph, choice among networks."""
