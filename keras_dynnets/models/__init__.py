from keras_dynnets.models import cnsn, puppet, tissue
from keras_dynnets.models.cnsn import CNSN
from keras_dynnets.models.convnet import convnet
from keras_dynnets.models.dmnn import DMNN
from keras_dynnets.models.mlp import lenet5, mlp
from keras_dynnets.models.mobilenet_v2 import mobilenet_v2
from keras_dynnets.models.puppet import PuppetCNN
from keras_dynnets.models.resnet import resnet
from keras_dynnets.models.vgg import vgg
