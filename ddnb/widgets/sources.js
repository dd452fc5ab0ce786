// Reads an uploaded file and hands it to Python through a hidden text field. The size is checked here: ipywidgets' own
// FileUpload sends any file, the connection drops one that is too large, and the widget waits forever.

function readFile(event) {
  const file = this.files[0];
  const limit = Number(this.dataset.limit);
  const output = this.closest("div").querySelector("output");
  if (!file) return;
  if (file.size > limit) {
    const megabytes = Math.round(file.size / 1e6);
    output.textContent = `${file.name} has ${megabytes} MB; the limit of uploads is ${limit / 1e6} MB. Copy it to ` +
      "the machine of the notebook and type its path.";
    this.value = "";
    return;
  }
  output.textContent = "";
  const reader = new FileReader();
  const field = this.closest(".ddnb-upload").querySelector(".ddnb-file input");
  reader.onload = () => {
    field.value = JSON.stringify([file.name, reader.result.split(",")[1] || ""]);
    field.dispatchEvent(new Event("change", { bubbles: true }));
  };
  reader.readAsDataURL(file);
}
