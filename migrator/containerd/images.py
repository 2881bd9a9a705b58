"""Names for content."""

from __future__ import annotations

from google.protobuf.field_mask_pb2 import FieldMask

from migrator.containerd.channel import Caller
from migrator.containerd.values import Image
from migrator.gen.containerd.services.images.v1 import images_pb2 as pb
from migrator.gen.containerd.services.images.v1.images_pb2_grpc import ImagesStub


class Images:
    """The images of one namespace. Errors carry codes such as `image_not_found`."""

    def __init__(self, caller: Caller):
        self._caller = caller

    def get(self, name: str) -> Image:
        """Return one image.

        Raises:
            NotFound: `image_not_found`.
        """
        subject = self._caller.subject("read", "image", name)
        return Image.from_wire(self._caller.unary(self._stub.Get, pb.GetImageRequest(name=name), subject).image)

    def list(self, *filters: str) -> list[Image]:
        """Return the images that match any filter, such as `name==NAME`; without one, all."""
        subject = self._caller.subject("list", "image")
        answer = self._caller.unary(self._stub.List, pb.ListImagesRequest(filters=filters), subject)
        return [Image.from_wire(image) for image in answer.images]

    def create(self, image: Image) -> Image:
        """Give content a name; from then on it is kept.

        Raises:
            AlreadyExists: `image_already_exists`.
        """
        subject = self._caller.subject("create", "image", image.name, changes=True)
        request = pb.CreateImageRequest(image=image.to_wire())
        return Image.from_wire(self._caller.unary(self._stub.Create, request, subject).image)

    def update(self, image: Image, *field_paths: str) -> Image:
        """Change an image: the fields named, such as `target` or `labels.x`, or target and labels."""
        mask = FieldMask(paths=field_paths) if field_paths else None
        request = pb.UpdateImageRequest(image=image.to_wire(), update_mask=mask)
        subject = self._caller.subject("update", "image", image.name, changes=True)
        return Image.from_wire(self._caller.unary(self._stub.Update, request, subject).image)

    def delete(self, name: str, *, sync: bool = False) -> None:
        """Forget a name. With `sync` the call ends after the garbage collector has run.

        Raises:
            NotFound: `image_not_found`.
        """
        subject = self._caller.subject("delete", "image", name, changes=True)
        request = pb.DeleteImageRequest(name=name, sync=sync)
        timeout_s = self._caller.slow_timeout_s if sync else None
        self._caller.unary(self._stub.Delete, request, subject, timeout_s=timeout_s)

    @property
    def _stub(self) -> ImagesStub:
        return self._caller.stub(ImagesStub)
