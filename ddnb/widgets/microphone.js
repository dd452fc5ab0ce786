// Records from the microphone; the value of the call is a 16-bit WAV file in base64, or a text that says what failed.
// The browser decodes its own recording, whose format no sound library here can read.

async function recordMicrophone(seconds) {
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia(
      {audio: {echoCancellation: false, noiseSuppression: false, autoGainControl: false}});
  } catch (error) {
    return "refused: " + error.message;
  }
  const label = document.createElement("p");
  label.setAttribute("role", "status");
  label.textContent = "recording " + seconds + " s ...";
  document.body.appendChild(label);
  const recorder = new MediaRecorder(stream), parts = [];
  recorder.ondataavailable = event => parts.push(event.data);
  const stopped = new Promise(resolve => recorder.onstop = resolve);
  recorder.start();
  await new Promise(resolve => setTimeout(resolve, 1000 * seconds));
  recorder.stop();
  await stopped;
  stream.getTracks().forEach(track => track.stop());
  label.textContent = "recorded " + seconds + " s";
  const context = new AudioContext();
  const sound = await context.decodeAudioData(await new Blob(parts).arrayBuffer());
  await context.close();
  const count = sound.numberOfChannels, frames = sound.length, size = 2 * count * frames;
  const view = new DataView(new ArrayBuffer(44 + size));
  const text = (at, word) => [...word].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF"); view.setUint32(4, 36 + size, true); text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, count, true);
  view.setUint32(24, sound.sampleRate, true); view.setUint32(28, 2 * count * sound.sampleRate, true);
  view.setUint16(32, 2 * count, true); view.setUint16(34, 16, true);
  text(36, "data"); view.setUint32(40, size, true);
  for (let c = 0; c < count; c++) {
    const samples = sound.getChannelData(c);
    for (let i = 0; i < frames; i++)
      view.setInt16(44 + 2 * (count * i + c), Math.round(32767 * Math.max(-1, Math.min(1, samples[i]))), true);
  }
  const bytes = new Uint8Array(view.buffer);
  let binary = "";
  for (let i = 0; i < bytes.length; i += 32768) binary += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return btoa(binary);
}
